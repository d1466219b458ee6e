"""Pages about runs, for people: self-contained HTML, Markdown and CSV."""
