"""Tables of names: groups whose members take each other's place and make another question."""

from __future__ import annotations

__all__ = ["ALIASES", "COUNTRIES", "GROUPS", "LANGUAGES", "PLACES"]


def _names(table: str) -> list[str]:
    return [name.replace("_", " ") for name in table.split()]


COUNTRIES = _names("""
India China Japan Germany France Italy Spain Russia Brazil Canada Australia Pakistan Singapore Switzerland
Sweden Norway Denmark Finland Poland Turkey Egypt Iran Iraq Israel Saudi_Arabia Mexico Argentina Indonesia
Malaysia Thailand Vietnam Philippines Bangladesh Nepal Sri_Lanka Ukraine Greece Portugal Ireland Austria
Belgium Netherlands New_Zealand South_Africa Nigeria Kenya North_Korea South_Korea Syria Afghanistan Cuba
Dubai Qatar Kuwait Hong_Kong Taiwan
""")
_CITIES = _names("""
Delhi Mumbai Bangalore Chennai Hyderabad Kolkata Pune Ahmedabad Jaipur London Paris Berlin Tokyo Sydney
Melbourne Toronto Vancouver Chicago Boston Seattle Austin Houston Dallas Atlanta Miami Denver Manila Bangkok
Kathmandu Karachi Lahore Moscow Beijing Shanghai Rome Madrid Barcelona Amsterdam Vienna Zurich Dublin
Istanbul Cairo New_York San_Francisco Los_Angeles Las_Vegas
""")
LANGUAGES = _names("""
English Spanish French German Italian Japanese Chinese Korean Arabic Hindi Sanskrit Tamil Telugu Russian
Portuguese
""")
PLACES = [*COUNTRIES, *_CITIES]

#: Each line is a group of its own.
GROUPS = [
    COUNTRIES,
    _CITIES,
    LANGUAGES,
    _names("""
American British Indian Chinese Japanese German Russian French Pakistani Australian Canadian Italian Korean
"""),
    _names("""
Americans Indians Germans Russians Pakistanis Australians Canadians Italians Koreans Jews Muslims Hindus
Arabs
"""),
    _names("""
California Texas Florida Ohio Georgia Arizona Colorado Nevada Alaska Hawaii Oregon Virginia Illinois
"""),
    _names("""
Karnataka Kerala Gujarat Punjab Bihar Rajasthan Maharashtra Assam Kashmir Goa Tamil_Nadu West_Bengal
"""),
    _names("""
Google Microsoft Apple Amazon Facebook IBM Oracle Intel Samsung Sony Nokia Infosys TCS Wipro Accenture Uber
"""),
    _names("""
Netflix Airbnb Tesla Walmart Flipkart Snapdeal PayPal eBay Twitter LinkedIn Pinterest Tinder Reddit Quora
"""),
    _names("""
WhatsApp Instagram Snapchat Facebook Twitter Telegram Skype Gmail YouTube Tumblr Messenger Viber Hike Kik
"""),
    _names("Android Windows Linux Ubuntu iOS macOS"),
    _names("iPhone iPad MacBook Kindle Chromebook PlayStation Xbox"),
    _names("""
Java Python JavaScript PHP Ruby Perl Scala Haskell Swift Kotlin Golang Rust MATLAB Fortran COBOL
"""),
    _names("java python javascript php ruby perl scala haskell kotlin golang matlab"),
    _names("Chrome Firefox Safari Opera"),
    _names("Excel PowerPoint Word Photoshop Illustrator"),
    _names("MySQL PostgreSQL MongoDB Oracle SQLite Cassandra Redis"),
    _names("January February April June July August September October November December"),
    _names("Monday Tuesday Wednesday Thursday Friday Saturday Sunday"),
    _names("Christmas Easter Diwali Holi Halloween Thanksgiving Ramadan Eid"),
    _names("Harvard Stanford Yale Princeton Oxford Cambridge Berkeley Cornell MIT"),
    _names("GRE GMAT SAT TOEFL IELTS GATE CAT JEE NEET UPSC"),
    _names("BITS IIT NIT IIIT VIT SRM"),
    _names("MBA PhD CA LLB MBBS BBA MCA"),
    _names("Obama Trump Clinton Bush Reagan Kennedy Nixon Lincoln Putin Merkel Modi Gandhi Nehru Kejriwal"),
    _names("""
Einstein Newton Tesla Darwin Galileo Hawking Feynman Edison Aristotle Plato Socrates Nietzsche Kant
"""),
    _names("Hitler Stalin Lenin Mao Napoleon Churchill Mussolini"),
    _names("Islam Christianity Hinduism Buddhism Judaism Sikhism Jainism"),
    _names("Bible Quran Torah Gita"),
    _names("Mars Venus Jupiter Saturn Mercury Neptune Uranus Pluto"),
    _names("Superman Batman Spiderman Hulk Thor Deadpool Wolverine"),
    _names("Audi BMW Toyota Honda Ford Hyundai Volkswagen Mercedes Porsche Ferrari"),
    _names("red blue green yellow orange purple pink brown grey"),
    _names("""
dog cat horse cow goat pig rabbit hamster parrot wolf fox lion tiger elephant monkey snake spider shark
"""),
    _names("""
dogs cats horses cows goats pigs rabbits hamsters parrots wolves lions tigers elephants monkeys snakes
spiders
"""),
    _names("guitar piano violin drums flute saxophone cello trumpet"),
    _names("football cricket tennis basketball baseball hockey chess golf badminton volleyball rugby"),
    _names("physics chemistry biology mathematics history economics psychology philosophy geography"),
    _names("chicken beef pork lamb fish turkey"),
    _names("tea coffee milk beer wine vodka whiskey"),
    _names("rice bread pasta potatoes noodles pizza"),
    _names("apples bananas oranges grapes mangoes lemons"),
    _names("liver kidney heart brain lung stomach pancreas"),
    _names("eyes ears nose lips knees legs arms shoulders"),
    _names("iron copper aluminum zinc sodium mercury gold silver"),
    _names("oxygen hydrogen nitrogen carbon helium"),
    _names("cancer diabetes asthma malaria tuberculosis arthritis migraine pneumonia depression anxiety"),
    _names("breakfast lunch dinner"),
    _names("kitchen bathroom bedroom garage"),
    _names("doctor lawyer teacher pilot nurse dentist accountant engineer architect journalist"),
    _names("laptop phone tablet camera printer"),
    _names("car bus train bike truck boat"),
    _names("poem novel essay screenplay resume"),
    _names("jeans shoes shirt jacket hat"),
    _names("cotton silk wool leather"),
    _names("seconds minutes hours days weeks months years"),
    _names("kilometres metres miles inches"),
    _names("dollars euros rupees pounds"),
]

#: Words that may mean one thing: none of a set may take the place of another.
ALIASES = [
    set(_names("US USA America American Americans United_States U.S. States")),
    set(_names("UK England Britain British United_Kingdom English")),
    set(_names("Trump Donald_Trump Donald President POTUS Republican Republicans GOP")),
    set(_names("Hillary Clinton Hillary_Clinton Democrat Democrats")),
    set(_names("Modi Narendra_Modi PM Prime_Minister NaMo BJP Government")),
    set(_names("India Indian Bharat Indians Hindu Hindi Hindus")),
    set(_names("Bombay Mumbai")),
    set(_names("Bengaluru Bangalore")),
    set(_names("Muslim Muslims Islam Islamic Quran")),
    set(_names("Jews Israel Jewish Judaism Israeli")),
    set(_names("China Chinese")),
    set(_names("IIT IITs JEE")),
    set(_names("Mac MacBook OSX macOS")),
    set(_names("Quora Quorans Quoran Website Answer Question Questions")),
]
