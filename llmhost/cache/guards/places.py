"""Countries with their people, states of federations, big cities, and parts of the world."""

from __future__ import annotations

__all__ = ["CITIES", "COUNTRIES", "REGIONS", "STATES"]

COUNTRIES = """
afghanistan=afghan; albania=albanian; algeria=algerian; argentina=argentinian=argentine; armenia=armenian
australia=australian=aussie; austria=austrian; azerbaijan; bahrain; bangladesh=bangladeshi
belarus=belarusian; belgium=belgian; bhutan; bolivia; bosnia; botswana; brazil=brazilian
bulgaria=bulgarian; burma=myanmar=burmese; cambodia=cambodian; cameroon; canada=canadian; CHAD
chile=chilean; china=chinese; colombia=colombian; congo; costa rica; croatia=croatian; cuba=cuban; cyprus
czech republic=czechia=czech; denmark=danish; ecuador; egypt=egyptian; estonia=estonian
ethiopia=ethiopian; finland=finnish; france=french; GEORGIA; germany=german; ghana; greece=greek
guatemala; haiti; hungary=hungarian; iceland=icelandic; india=indian; indonesia=indonesian
iran=iranian=persian; iraq=iraqi; ireland=irish; israel=israeli; italy=italian; ivory coast
jamaica=jamaican; japan=japanese; JORDAN=jordanian; kazakhstan; kenya=kenyan; kuwait; laos; latvia=latvian
lebanon=lebanese; libya=libyan; lithuania=lithuanian; luxembourg; madagascar; malaysia=malaysian; maldives
malta; mauritius; mexico=mexican; mongolia=mongolian; morocco=moroccan; namibia; nepal=nepali=nepalese
netherlands=holland=dutch; new zealand; nigeria=nigerian; north korea=north korean; norway=norwegian; oman
pakistan=pakistani; palestine=palestinian; panama; paraguay; peru=peruvian; philippines=filipino
poland=POLISH; portugal=portuguese; qatar=qatari; romania=romanian; russia=russian; rwanda
saudi arabia=saudi; scotland=scottish; senegal; serbia=serbian; singapore=singaporean; slovakia; slovenia
somalia; south africa=south african; south korea=korea=korean=south korean; soviet union=ussr=soviet
spain=spanish; sri lanka=sri lankan; sudan; sweden=swedish; switzerland=swiss; syria=syrian
taiwan=taiwanese; tanzania; thailand=thai; tibet=tibetan; tunisia; TURKEY=turkish; uganda
ukraine=ukrainian; united arab emirates=uae; united kingdom=uk=u k=britain=british=great britain; england
united states=united states of america=usa=u s=u s a=US=america=american; uruguay; uzbekistan
venezuela=venezuelan; vietnam=vietnamese; wales=welsh; yemen; zambia; zimbabwe
"""

STATES = """
alabama; alaska; arizona; arkansas; california; colorado; connecticut; delaware; florida; hawaii; idaho
illinois; indiana; iowa; kansas; kentucky; louisiana; maine; maryland; massachusetts; michigan; minnesota
mississippi; missouri; montana; nebraska; nevada; new hampshire; new jersey; new mexico; north carolina
north dakota; ohio; oklahoma; oregon; pennsylvania; rhode island; south carolina; south dakota; tennessee
texas; utah; vermont; virginia; west virginia; wisconsin; wyoming; kerala; tamil nadu; karnataka
maharashtra; gujarat; rajasthan; punjab; bihar; west bengal; uttar pradesh; madhya pradesh; odisha; assam
goa; haryana; telangana; andhra pradesh; kashmir; uttarakhand; himachal pradesh; sikkim; bavaria; ontario
quebec; alberta; british columbia; queensland; new south wales; tasmania
"""

CITIES = """
new york=new york city=nyc; los angeles; chicago; houston; PHOENIX; philadelphia; san antonio; san diego
dallas; san francisco; seattle; denver; boston; detroit; las vegas=vegas; miami; atlanta; portland; austin
nashville; baltimore; cleveland; pittsburgh; orlando; washington dc=washington d c; toronto; vancouver
montreal; calgary; ottawa; mexico city; havana; rio de janeiro=rio; sao paulo; buenos aires; lima; bogota
santiago; london; manchester; birmingham; liverpool; glasgow; edinburgh; dublin; paris; lyon; marseille
berlin; munich; hamburg; frankfurt; cologne; vienna; zurich; geneva; amsterdam; rotterdam; brussels
madrid; barcelona; lisbon; porto; rome; milan; venice; florence; naples; athens; istanbul; ankara; moscow
saint petersburg=st petersburg; kiev=kyiv; warsaw; krakow; prague; budapest; bucharest; sofia; belgrade
stockholm; oslo; copenhagen; helsinki; reykjavik; cairo; alexandria; nairobi; lagos; accra; johannesburg
cape town; casablanca; marrakesh; tunis; algiers; dubai; abu dhabi; doha; riyadh; tehran; baghdad
jerusalem; tel aviv; mumbai=bombay; delhi=new delhi; bangalore=bengaluru; hyderabad; chennai=madras
kolkata=calcutta; pune; ahmedabad; jaipur; lucknow; kochi; chandigarh; indore; noida; gurgaon=gurugram
karachi; lahore; islamabad; dhaka; colombo; kathmandu; bangkok; hanoi; ho chi minh city=saigon
kuala lumpur; jakarta; bali; manila; hong kong; shanghai; beijing; shenzhen; guangzhou; taipei; seoul
busan; tokyo; osaka; kyoto; sapporo; sydney; melbourne; brisbane; PERTH; adelaide; canberra; auckland
wellington
"""

REGIONS = """
europe=european; asia=asian; africa=african; south america; north america; oceania; antarctica
latin america; middle east
"""
