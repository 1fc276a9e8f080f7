"""The documentation as a site: `python -m sphinx -W -b html docs docs/_build` (with `pip install -e '.[docs]'`)."""

import facesim

project = "facesim"
release = version = facesim.__version__
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
myst_enable_extensions = ["colon_fence"]
myst_heading_anchors = 3
exclude_patterns = ["_build"]
suppress_warnings = ["toc.empty_glob"]  # docs/studies has no page but its index until a study has made one
html_theme = "furo"
html_title = "facesim"
autodoc_member_order = "bysource"
autodoc_typehints = "description"
