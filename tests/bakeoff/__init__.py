"""The verdict against the rules of others: the set they are judged on, a model of pre-copy, and the rules."""
