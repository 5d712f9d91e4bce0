"""What a run is: presets, what they select, schedules of jobs, and running them."""
