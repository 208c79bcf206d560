"""Mutation testing: small faults put into the code, which the tests have to find; see `tests.mutation.mutants`."""
