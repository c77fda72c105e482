"""Dutch."""

from typing import Final

from edge.rules.pages.translations.translation import Translation

_TITLES: Final = {
    400: "Ongeldig verzoek",
    404: "Niet gevonden",
    405: "Methode niet toegestaan",
    408: "Tijdslimiet van het verzoek overschreden",
    413: "Inhoud te groot",
    414: "Adres te lang",
    417: "Niet aan de verwachting voldaan",
    421: "Verkeerd bezorgd verzoek",
    429: "Te veel verzoeken",
    431: "Headers van het verzoek te groot",
    501: "Niet ondersteund",
    502: "Ongeldige gateway",
    503: "Dienst niet beschikbaar",
    504: "Tijdslimiet van de gateway overschreden",
    505: "HTTP-versie niet ondersteund",
    508: "Lus ontdekt",
}
_SENTENCES: Final = {
    "bad_request": "Het verzoek was geen geldig HTTP/1.1 of kon op meer dan één manier worden gelezen.",
    "method_not_allowed": "Verzoeken met deze methode stuurt deze server niet door.",
    "loop_detected": "Het verzoek is meermaals langs deze server gekomen: de route van de website loopt in een "
    "kring.",
    "empty_host": "Het verzoek noemde geen website.",
    "host_not_covered": "Het certificaat van deze verbinding geldt niet voor deze website. "
    "Maak opnieuw verbinding.",
    "request_timeout": "Het verzoek is niet op tijd aangekomen.",
    "body_too_large": "Het verzoek bevat meer gegevens dan deze server accepteert.",
    "uri_too_long": "Het adres is langer dan deze server accepteert.",
    "expectation_failed": "Het verzoek verwacht iets wat deze server niet kent.",
    "headers_too_large": "De headers van het verzoek zijn te groot. Mogelijk helpt het om de cookies te wissen.",
    "unknown_host": "Er is hier geen website met deze naam.",
    "unknown_host_limit": "U hebt te veel websites opgevraagd die niet bestaan. Wacht een paar seconden.",
    "no_backends": "Voor deze website is op dit moment geen server beschikbaar.",
    "drained": "Deze website is even buiten gebruik. Probeer het binnenkort opnieuw.",
    "lookup_failed": "Er kon niet worden vastgesteld waar deze website is. Probeer het binnenkort opnieuw.",
    "maintenance": "Er wordt onderhoud aan deze website uitgevoerd. Kom later terug.",
    "site_limit": "Deze website verwerkt al zo veel verzoeken als zij kan. Probeer het zo dadelijk opnieuw.",
    "client_limit": "Deze website heeft veel bezoekers en u hebt veel lopende verzoeken. "
    "Probeer het zo dadelijk opnieuw.",
    "all_refused": "Alle servers van deze website zijn bezet. Probeer het zo dadelijk opnieuw.",
    "edge_overloaded": "Deze server is overbelast. Probeer het zo dadelijk opnieuw.",
    "edge_stopped": "Deze server wordt opnieuw gestart. Probeer het zo dadelijk opnieuw.",
    "connect_failed": "Geen server van deze website was bereikbaar.",
    "connect_timeout": "Geen server van deze website was op tijd bereikbaar.",
    "misdirected": "De servers van deze website zijn verhuisd en hun nieuwe adres is nog niet bekend.",
    "closed_early": "De server van de website heeft de verbinding verbroken voordat hij had geantwoord.",
    "bad_answer": "Het antwoord van de website was geen geldig HTTP.",
    "response_too_large": "De headers van het antwoord van de website zijn groter dan deze server accepteert.",
    "first_byte_timeout": "Het duurde te lang voordat de website antwoordde.",
    "cold_start_timeout": "De server van de website is niet op tijd gestart.",
    "stalled": "De website is midden in haar antwoord gestopt.",
}
DUTCH: Final = Translation("nl", {"site": "Website", "reason": "Reden", "request": "Verzoek"}, _TITLES, _SENTENCES)
