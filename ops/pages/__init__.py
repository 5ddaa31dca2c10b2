"""What a page is made of: drawings (SVG), words, figures read from reports, and the one way to render a template."""
