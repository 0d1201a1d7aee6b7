"""The report: a folder of images and a page that opens in any browser."""
