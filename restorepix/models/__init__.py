"""The networks and the loading of their weights; nothing here knows about files of pictures."""
