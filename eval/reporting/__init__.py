"""From runs to readers: tables, plots, galleries, one page."""
