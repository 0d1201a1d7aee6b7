"""The paper's tables and figures from a run directory, with the numbers behind each."""
