"""What user code holds: handles on datasets, runs, models, services and sites."""
