"""Any object of a run, candidate or not: what it is, why it is no candidate, its pictures and its pixels as files."""
