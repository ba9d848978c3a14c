"""Tracking pairs: new images of annotated ones, in which the objects are kept and the background is painted anew (OVTrack)."""
