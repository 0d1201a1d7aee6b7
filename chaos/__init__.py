"""Campaigns that try to make the program lose or spoil something: `python -m chaos --help`.

Each is seeded and can be interrupted; its counts go to ``chaos/results``, and ``docs/reliability.md`` is made of them.
"""
