# What the page offers. `lazy_loader` reads from here in which module each is found, at its first use.
from .server import serve_page as serve_page
from .topics import Topic as Topic
from .writer import write_page as write_page
