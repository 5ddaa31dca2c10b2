"""What every part stands on: settings, paths, image sets, whole-or-nothing files, seeds, progress, devices."""
