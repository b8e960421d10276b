"""Seeing the damage: from a photograph to the mask of what is to be repainted.

``scan`` runs the network over a picture of any size, ``findings`` turns its maps into pieces of
damage, ``pages`` recognises what is no photograph, ``infrared`` reads the dust channel of film
scans, and ``repair`` hands it all to the pipeline.
"""
