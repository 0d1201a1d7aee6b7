"""The report of a run: pictures, charts and the page, from arrays to bytes and text; nothing here touches a file."""
