"""The program as a library: the steps of a run on arrays and lazy objects that a user holds, and whole runs."""
