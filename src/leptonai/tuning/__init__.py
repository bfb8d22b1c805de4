"""The tuning stage: many trainings of one model under one Run, each with other settings, and the best of them kept."""
