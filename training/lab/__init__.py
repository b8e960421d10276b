"""How the systems of restorepix.models.lab are trained, and the table that compares them."""
