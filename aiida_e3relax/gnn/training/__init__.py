"""Training of models: settings, batches, schedules, the run itself and what it writes."""
