"""The small real models and pictures that ship with the project: see README.md beside this file."""
