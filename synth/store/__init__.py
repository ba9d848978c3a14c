"""The only code that knows file names, leases, commits and the framing of units."""
