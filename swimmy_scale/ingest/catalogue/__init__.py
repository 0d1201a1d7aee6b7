"""Catalogues: files of tables, their columns, and the objects in them."""
