"""``python -m swimmy_scale`` is ``swimmy-scale``."""

from swimmy_scale.cli import main

if __name__ == "__main__":
    main()
