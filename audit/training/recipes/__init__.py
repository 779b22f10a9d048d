"""Training recipes, one file each: functions registered with `@recipe` that yield what the loop is to descend."""
