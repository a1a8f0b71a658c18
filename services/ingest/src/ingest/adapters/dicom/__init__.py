"""DICOM: recognised, walked within bounds, de-identified by PS3.15's Basic Profile, and read into records."""
