"""Filters: stages between images and exports. Scores are computed and stored once, as sharded units; what is kept is decided from them.

A scoring stage has a sample for each picture. A filter has the slots of its images: a sample for each that it keeps, a tombstone with the
reason for each that it takes out. So a threshold can change without scoring again, and exports say why a picture is not there.
"""
