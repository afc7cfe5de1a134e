"""Units of measure: what they measure and how many of the base unit they are."""

from __future__ import annotations

__all__ = ["SCALES", "UNITS"]

_TABLE = """
length: mm millimeter millimetre millimeters millimetres=0.001
length: cm centimeter centimetre centimeters centimetres cms=0.01
length: m meter metre meters metres=1; km kms kilometer kilometre kilometers kilometres=1000
length: inch inches=0.0254
length: ft foot feet=0.3048; yard yards yd=0.9144; mile miles mi=1609.344; nm nanometers=1e-9
length: micron microns µm=1e-6
mass: mg milligram milligrams=1e-6; g gram grams gm gms=0.001; kg kgs kilo kilos kilogram kilograms=1
mass: tonne tonnes ton tons=1000
mass: lb lbs pound pounds=0.45359237; oz ounce ounces=0.0283495; mcg microgram micrograms=1e-9
mass: stone=6.35029
volume: ml milliliter millilitre milliliters millilitres=0.001; l liter litre liters litres=1
volume: gallon gallons=3.78541
volume: pint pints=0.473176; quart quarts=0.946353; cup cups=0.236588
volume: tbsp tablespoon tablespoons=0.0147868
volume: tsp teaspoon teaspoons=0.00492892; cl=0.01
time: ms millisecond milliseconds=0.001; sec secs second seconds=1; min mins minute minutes=60
time: hr hrs hour hours=3600
time: day days=86400; week weeks=604800; fortnight=1209600
months: month months=1; year years yr yrs=12; decade decades=120; century centuries=1200
data: bit bits=0.125; byte bytes=1; kb kilobyte kilobytes=1e3; mb megabyte megabytes=1e6
data: gb gigs gigabyte gigabytes=1e9
data: tb terabyte terabytes=1e12
speed: mph=1.609344; km/h kmh kph kmph=1
Celsius: c celsius centigrade °c=1
Fahrenheit: f fahrenheit °f=1
Kelvin: kelvin=1
percent: % percent pct=1
power: w watt watts=1; kw kilowatt kilowatts=1000; mw megawatt megawatts=1e6; hp horsepower=745.7
energy: cal calorie calories=1; kcal=1; j joule joules=0.000239; kwh=860421
voltage: v volt volts=1
current: a amp amps ampere amperes=1; mah=1
frequency: hz hertz=1; khz=1e3; mhz=1e6; ghz=1e9
dollars: dollar dollars usd bucks $=1; cent cents=0.01
euros: euro euros eur €=1
sterling: gbp £=1
rupees: rupee rupees rs inr ₹=1; paise=0.01
yen: yen jpy ¥=1
area: acre acres=4046.86; hectare hectares ha=10000; sqft=0.092903
"""


def _units() -> dict[str, tuple[str, float]]:
    units: dict[str, tuple[str, float]] = {}
    for line in _TABLE.strip().splitlines():
        dimension, _, rows = line.partition(":")
        for row in rows.split(";"):
            forms, _, factor = row.partition("=")
            units |= dict.fromkeys(forms.split(), (dimension, float(factor)))
    return units


#: Each unit with its dimension and its size in that dimension's base unit. Months are not seconds: none is
#: as long as the next.
UNITS = _units()
#: Words that multiply the number before them.
SCALES = {
    "k": 1e3,
    "thousand": 1e3,
    "lakh": 1e5,
    "lakhs": 1e5,
    "lac": 1e5,
    "million": 1e6,
    "mn": 1e6,
    "crore": 1e7,
    "crores": 1e7,
    "cr": 1e7,
    "billion": 1e9,
    "bn": 1e9,
    "trillion": 1e12,
    "hundred": 1e2,
    "dozen": 12.0,
}
