"""Sphinx's settings for the site; `build.py` copies this beside the processed notebooks."""

project = html_title = "arabic_dialog"
author = "the arabic_dialog developers"
extensions = ["myst_nb"]
html_theme = "sphinx_book_theme"
nb_execution_mode = "off"  # the outputs are those saved in the notebooks
nb_merge_streams = True
myst_enable_extensions = ["colon_fence"]
myst_heading_anchors = 2
nb_render_markdown_format = "myst"
html_static_path = ["_static"]
html_css_files = ["rtl.css"]
html_js_files = ["search.js"]
html_theme_options = {
    "use_download_button": False,
    "show_navbar_depth": 1,
    "navbar_persistent": [],
}  # one search field, in the sidebar
html_copy_source = False
html_show_copyright = False
suppress_warnings = ["myst.header"]  # nbdev documents definitions with level-3 headings
