"""The sentences, clauses and names that all frontends share."""
