//! What outlives a plan, joined by identity: counters, estimates, ejection, breakers, limits.
