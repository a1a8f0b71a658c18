"""The catalog: Millrace's system of record and gateway."""
