"""Object stores as sources and destinations: ``s3://`` and, untested, ``gs://``, through fsspec."""

from restorepix.stores.place import StorePath, is_remote, parse_place

__all__ = ["StorePath", "is_remote", "parse_place"]
