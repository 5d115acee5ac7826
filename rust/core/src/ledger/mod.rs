//! Sampling bookkeeping: the plan of draws, their seeds, and the journal of a run (one SQLite file).
