"""The report of a run: a contact sheet in one page, and the same page served for review."""
