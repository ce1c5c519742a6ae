"""The 50 companies. All of them are made up: names, places and figures come from a seeded generator."""

import random
from dataclasses import dataclass

FIRST = ("Alder", "Beacon", "Cobalt", "Dunmore", "Ember", "Fallow", "Granite", "Harrow", "Indigo", "Juniper")
SECOND = ("Bearings", "Ceramics", "Freight", "Instruments", "Textiles")
PLACES = ("Port Alder", "Westmarch", "Greyhaven", "Lower Kett", "Tallow Bridge", "Saint Orrin")


@dataclass(frozen=True)
class Figures:
    """What is true of a company in this made-up world. Revenue is in millions of dollars, oldest year first."""

    slug: str
    name: str
    founded: int
    headquarters: str
    employees: int
    revenues: tuple[int, int, int]

    def facts(self) -> dict[str, str]:
        """As a page states them."""
        return {
            "founded": str(self.founded),
            "headquarters": self.headquarters,
            "employees": str(self.employees),
            "revenue": str(self.revenues[-1]),
        }


def companies() -> list[Figures]:
    """Always the same fifty."""
    draw = random.Random(50)
    made: list[Figures] = []
    for first in FIRST:
        for second in SECOND:
            base = draw.randrange(40, 900)
            years = (base, base + draw.randrange(-20, 60), base + draw.randrange(-30, 150))
            slug, name = f"{first}-{second}".lower(), f"{first} {second}"
            staff = draw.randrange(80, 9000)
            made.append(Figures(slug, name, draw.randrange(1890, 2015), draw.choice(PLACES), staff, years))
    return made
