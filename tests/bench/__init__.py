"""How fast, how large, how late: `make bench` prints it. Nothing here is a timed test; see README.md beside this."""
