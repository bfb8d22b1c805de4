"""The parts of the benchmark of training: what is learnt, by whom, and how they take turns."""
