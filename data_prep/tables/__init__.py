"""Tables: readers, typed columns, and the transform from columns to numbers."""
