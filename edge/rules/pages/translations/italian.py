"""Italian."""

from typing import Final

from edge.rules.pages.translations.translation import Translation

_TITLES: Final = {
    400: "Richiesta non valida",
    404: "Non trovato",
    405: "Metodo non consentito",
    408: "Tempo della richiesta scaduto",
    413: "Contenuto troppo grande",
    414: "Indirizzo troppo lungo",
    417: "Aspettativa non soddisfatta",
    421: "Richiesta indirizzata male",
    429: "Troppe richieste",
    431: "Intestazioni della richiesta troppo grandi",
    501: "Non supportato",
    502: "Gateway non valido",
    503: "Servizio non disponibile",
    504: "Tempo del gateway scaduto",
    505: "Versione HTTP non supportata",
    508: "Ciclo rilevato",
}
_SENTENCES: Final = {
    "bad_request": "La richiesta non era HTTP/1.1 valido o poteva essere letta in più modi.",
    "method_not_allowed": "Questo server non inoltra richieste con questo metodo.",
    "loop_detected": "La richiesta è passata più volte da questo server: il percorso del sito è circolare.",
    "empty_host": "La richiesta non indicava alcun sito.",
    "host_not_covered": "Il certificato di questa connessione non vale per questo sito. Si prega di riconnettersi.",
    "request_timeout": "La richiesta non è arrivata in tempo.",
    "body_too_large": "La richiesta contiene più dati di quanti questo server ne accetti.",
    "uri_too_long": "L'indirizzo è più lungo di quanto questo server accetti.",
    "expectation_failed": "La richiesta si aspetta qualcosa che questo server non conosce.",
    "headers_too_large": "Le intestazioni della richiesta sono troppo grandi. "
    "Eliminare i cookie può essere d'aiuto.",
    "unknown_host": "Qui non esiste alcun sito con questo nome.",
    "unknown_host_limit": "Sono stati richiesti troppi siti inesistenti. Si prega di attendere qualche secondo.",
    "no_backends": "Al momento nessun server è disponibile per questo sito.",
    "drained": "Questo sito è momentaneamente fuori servizio. Si prega di riprovare a breve.",
    "lookup_failed": "Non è stato possibile stabilire dove si trovi questo sito. Si prega di riprovare a breve.",
    "maintenance": "Questo sito è in manutenzione. Si prega di tornare più tardi.",
    "site_limit": "Questo sito gestisce già il massimo di richieste. Si prega di riprovare tra un momento.",
    "client_limit": "Questo sito ha molti visitatori e Lei ha molte richieste aperte. "
    "Si prega di riprovare tra un momento.",
    "all_refused": "Tutti i server di questo sito sono occupati. Si prega di riprovare tra un momento.",
    "edge_overloaded": "Questo server è sovraccarico. Si prega di riprovare tra un momento.",
    "edge_stopped": "Questo server è in fase di riavvio. Si prega di riprovare tra un momento.",
    "connect_failed": "Nessun server di questo sito è raggiungibile.",
    "connect_timeout": "Nessun server di questo sito è stato raggiunto in tempo.",
    "misdirected": "I server di questo sito sono stati spostati e il loro nuovo indirizzo non è ancora noto.",
    "closed_early": "Il server del sito ha chiuso la connessione prima di rispondere.",
    "bad_answer": "La risposta del sito non era HTTP valido.",
    "response_too_large": "Le intestazioni della risposta del sito sono più grandi di quanto questo server "
    "accetti.",
    "first_byte_timeout": "Il sito ha impiegato troppo tempo a rispondere.",
    "cold_start_timeout": "Il server del sito non si è avviato in tempo.",
    "stalled": "Il sito si è interrotto nel mezzo della risposta.",
}
ITALIAN: Final = Translation(
    "it", {"site": "Sito", "reason": "Motivo", "request": "Richiesta"}, _TITLES, _SENTENCES
)
