"""Surveys by name, each with its sources (see `named_surveys`)."""
