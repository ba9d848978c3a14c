"""Real runs, disturbed: `make campaign` (python -m tests.campaign --seed N --minutes M [--phase NAME]).

Whatever happens to a run, typing the same command again is the only repair: so each phase starts launch/run.py again and again until
it says 0 while something goes wrong, and then compares every unit and every file of the exports with those of an undisturbed run.
All that is random comes from the seed. To add a phase, write a function in a file of its own and add its row to PHASES
(tests/campaign/phases.py).
"""
