"""What every stage kind writes, frozen: fingerprints, stage.json and digests of all files, made through the command line alone.

    python -m tests.golden            run all cases, compare with golden.json, exit 1 on a difference
    python -m tests.golden --write    take what this machine makes for golden.json

A change that is meant to leave every byte as it is must leave golden.json as it is. See cases.py for what is run.
"""
