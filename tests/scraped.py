"""Reads the numbers that Prometheus would get."""

from app.platform import metrics


def samples(text: str | None = None) -> dict[str, float]:
    """Return every series and its value, of a scraped text or else of this process."""
    if text is None:
        text = metrics.exposition().decode()
    lines = [line.rpartition(" ") for line in text.splitlines() if not line.startswith("#")]
    return {series: float(value) for series, _, value in lines}


def kinds(text: str) -> dict[str, str]:
    """Return the name of every metric and its type."""
    lines = [line.split(" ") for line in text.splitlines() if line.startswith("# TYPE ")]
    return {name: kind for _, _, name, kind in lines}
