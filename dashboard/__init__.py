"""What people look at: figures and reports, from plain trials and goals."""
