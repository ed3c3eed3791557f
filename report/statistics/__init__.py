"""What orderings rest on beside the tests of a fixed size: evidence under looks, Bayesian equivalence, matrices."""
