"""Polish."""

from typing import Final

from edge.rules.pages.translations.translation import Translation

_TITLES: Final = {
    400: "Nieprawidłowe żądanie",
    404: "Nie znaleziono",
    405: "Niedozwolona metoda",
    408: "Przekroczono czas żądania",
    413: "Zbyt duża treść",
    414: "Zbyt długi adres",
    417: "Niespełnione oczekiwanie",
    421: "Błędnie skierowane żądanie",
    429: "Zbyt wiele żądań",
    431: "Zbyt duże nagłówki żądania",
    501: "Nieobsługiwane",
    502: "Błąd bramy",
    503: "Usługa niedostępna",
    504: "Przekroczono czas odpowiedzi bramy",
    505: "Nieobsługiwana wersja HTTP",
    508: "Wykryto pętlę",
}
_SENTENCES: Final = {
    "bad_request": "Żądanie nie było zgodne z HTTP/1.1 lub można je było odczytać na kilka sposobów.",
    "method_not_allowed": "Ten serwer nie przekazuje żądań z tą metodą.",
    "loop_detected": "Żądanie kilka razy przeszło przez ten serwer: trasa witryny tworzy pętlę.",
    "empty_host": "W żądaniu nie podano witryny.",
    "host_not_covered": "Certyfikat tego połączenia nie obejmuje tej witryny. Prosimy połączyć się ponownie.",
    "request_timeout": "Żądanie nie dotarło na czas.",
    "body_too_large": "Żądanie zawiera więcej danych, niż przyjmuje ten serwer.",
    "uri_too_long": "Adres jest dłuższy, niż dopuszcza ten serwer.",
    "expectation_failed": "Żądanie oczekuje czegoś, czego ten serwer nie zna.",
    "headers_too_large": "Nagłówki żądania są zbyt duże. Pomóc może usunięcie plików cookie.",
    "unknown_host": "Nie ma tu witryny o tej nazwie.",
    "unknown_host_limit": "Zażądano zbyt wielu nieistniejących witryn. Prosimy odczekać kilka sekund.",
    "no_backends": "W tej chwili żaden serwer tej witryny nie jest dostępny.",
    "drained": "Ta witryna jest chwilowo wyłączona. Prosimy wkrótce spróbować ponownie.",
    "lookup_failed": "Nie udało się ustalić, gdzie znajduje się ta witryna. Prosimy wkrótce spróbować ponownie.",
    "maintenance": "Trwają prace konserwacyjne witryny. Prosimy wrócić później.",
    "site_limit": "Ta witryna obsługuje już tyle żądań, ile może. Prosimy spróbować ponownie za chwilę.",
    "client_limit": "Ta witryna ma wielu odwiedzających, a liczba Państwa otwartych żądań jest duża. "
    "Prosimy spróbować ponownie za chwilę.",
    "all_refused": "Wszystkie serwery tej witryny są zajęte. Prosimy spróbować ponownie za chwilę.",
    "edge_overloaded": "Ten serwer jest przeciążony. Prosimy spróbować ponownie za chwilę.",
    "edge_stopped": "Ten serwer jest właśnie uruchamiany ponownie. Prosimy spróbować ponownie za chwilę.",
    "connect_failed": "Nie udało się połączyć z żadnym serwerem tej witryny.",
    "connect_timeout": "Nie udało się na czas połączyć z żadnym serwerem tej witryny.",
    "misdirected": "Serwery tej witryny zostały przeniesione, a ich nowy adres nie jest jeszcze znany.",
    "closed_early": "Serwer witryny zamknął połączenie, zanim odpowiedział.",
    "bad_answer": "Odpowiedź witryny nie była zgodna z HTTP.",
    "response_too_large": "Nagłówki odpowiedzi witryny są większe, niż przyjmuje ten serwer.",
    "first_byte_timeout": "Witryna zbyt długo nie odpowiadała.",
    "cold_start_timeout": "Serwer witryny nie uruchomił się na czas.",
    "stalled": "Witryna przerwała wysyłanie odpowiedzi.",
}
POLISH: Final = Translation(
    "pl", {"site": "Witryna", "reason": "Przyczyna", "request": "Żądanie"}, _TITLES, _SENTENCES
)
