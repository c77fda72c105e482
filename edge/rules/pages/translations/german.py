"""German."""

from typing import Final

from edge.rules.pages.translations.translation import Translation

_TITLES: Final = {
    400: "Ungültige Anfrage",
    404: "Nicht gefunden",
    405: "Methode nicht erlaubt",
    408: "Zeitüberschreitung der Anfrage",
    413: "Inhalt zu groß",
    414: "Adresse zu lang",
    417: "Erwartung nicht erfüllt",
    421: "Falsch zugestellte Anfrage",
    429: "Zu viele Anfragen",
    431: "Kopfzeilen der Anfrage zu groß",
    501: "Nicht unterstützt",
    502: "Fehlerhaftes Gateway",
    503: "Dienst nicht verfügbar",
    504: "Zeitüberschreitung am Gateway",
    505: "HTTP-Version nicht unterstützt",
    508: "Endlosschleife entdeckt",
}
_SENTENCES: Final = {
    "bad_request": "Die Anfrage war kein gültiges HTTP/1.1 oder ließ sich auf mehrere Arten lesen.",
    "method_not_allowed": "Anfragen mit dieser Methode leitet dieser Server nicht weiter.",
    "loop_detected": "Die Anfrage kam mehrmals hier vorbei: Die Route der Website führt im Kreis.",
    "empty_host": "Die Anfrage nannte keine Website.",
    "host_not_covered": "Das Zertifikat dieser Verbindung gilt nicht für diese Website. "
    "Bitte verbinden Sie sich neu.",
    "request_timeout": "Die Anfrage ist nicht rechtzeitig eingetroffen.",
    "body_too_large": "Die Anfrage enthält mehr Daten, als dieser Server annimmt.",
    "uri_too_long": "Die Adresse ist länger, als dieser Server annimmt.",
    "expectation_failed": "Die Anfrage erwartet etwas, das dieser Server nicht kennt.",
    "headers_too_large": "Die Kopfzeilen der Anfrage sind zu groß. "
    "Möglicherweise hilft es, die Cookies zu löschen.",
    "unknown_host": "Eine Website mit diesem Namen gibt es hier nicht.",
    "unknown_host_limit": "Sie haben zu viele Websites angefragt, die es nicht gibt. "
    "Bitte warten Sie einige Sekunden.",
    "no_backends": "Für diese Website steht zurzeit kein Server bereit.",
    "drained": "Diese Website ist kurzzeitig außer Betrieb. Bitte versuchen Sie es in Kürze erneut.",
    "lookup_failed": "Es ließ sich nicht ermitteln, wo diese Website ist. Bitte versuchen Sie es in Kürze erneut.",
    "maintenance": "Diese Website wird gerade gewartet. Bitte kommen Sie später wieder.",
    "site_limit": "Diese Website ist ausgelastet. Bitte versuchen Sie es gleich noch einmal.",
    "client_limit": "Diese Website hat viele Besucher, und Sie haben viele offene Anfragen. "
    "Bitte versuchen Sie es gleich noch einmal.",
    "all_refused": "Alle Server dieser Website sind ausgelastet. Bitte versuchen Sie es gleich noch einmal.",
    "edge_overloaded": "Dieser Server ist überlastet. Bitte versuchen Sie es gleich noch einmal.",
    "edge_stopped": "Dieser Server wird neu gestartet. Bitte versuchen Sie es gleich noch einmal.",
    "connect_failed": "Kein Server dieser Website war erreichbar.",
    "connect_timeout": "Kein Server dieser Website war rechtzeitig erreichbar.",
    "misdirected": "Die Server dieser Website sind umgezogen, und ihre neue Adresse ist noch nicht bekannt.",
    "closed_early": "Der Server der Website hat die Verbindung vor seiner Antwort geschlossen.",
    "bad_answer": "Die Antwort der Website war kein gültiges HTTP.",
    "response_too_large": "Die Kopfzeilen der Antwort sind größer, als dieser Server annimmt.",
    "first_byte_timeout": "Die Website hat zu lange nicht geantwortet.",
    "cold_start_timeout": "Der Server der Website ist nicht rechtzeitig gestartet.",
    "stalled": "Die Website hat mitten in ihrer Antwort aufgehört.",
}
GERMAN: Final = Translation("de", {"site": "Website", "reason": "Grund", "request": "Anfrage"}, _TITLES, _SENTENCES)
