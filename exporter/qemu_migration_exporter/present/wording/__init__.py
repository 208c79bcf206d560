"""Words for what a view shows: the sentences, clauses and names that every frontend shares."""
