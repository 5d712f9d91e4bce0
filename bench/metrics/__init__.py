"""Built-in metrics: functions of saved predictions, loaded as entry points."""
