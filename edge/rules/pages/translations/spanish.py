"""Spanish."""

from typing import Final

from edge.rules.pages.translations.translation import Translation

_TITLES: Final = {
    400: "Solicitud incorrecta",
    404: "No encontrado",
    405: "Método no permitido",
    408: "Tiempo de solicitud agotado",
    413: "Contenido demasiado grande",
    414: "Dirección demasiado larga",
    417: "Expectativa no cumplida",
    421: "Solicitud mal dirigida",
    429: "Demasiadas solicitudes",
    431: "Cabeceras de la solicitud demasiado grandes",
    501: "No compatible",
    502: "Puerta de enlace incorrecta",
    503: "Servicio no disponible",
    504: "Tiempo de la puerta de enlace agotado",
    505: "Versión de HTTP no compatible",
    508: "Bucle detectado",
}
_SENTENCES: Final = {
    "bad_request": "La solicitud no era HTTP/1.1 válido o podía leerse de más de una forma.",
    "method_not_allowed": "Este servidor no transmite solicitudes con este método.",
    "loop_detected": "La solicitud ha pasado varias veces por este servidor: la ruta del sitio es circular.",
    "empty_host": "La solicitud no indicaba ningún sitio.",
    "host_not_covered": "El certificado de esta conexión no es válido para este sitio. "
    "Vuelva a conectarse, por favor.",
    "request_timeout": "La solicitud no llegó a tiempo.",
    "body_too_large": "La solicitud contiene más datos de los que este servidor acepta.",
    "uri_too_long": "La dirección es más larga de lo que este servidor acepta.",
    "expectation_failed": "La solicitud espera algo que este servidor no conoce.",
    "headers_too_large": "Las cabeceras de la solicitud son demasiado grandes. Borrar las cookies puede ayudar.",
    "unknown_host": "Aquí no existe ningún sitio con este nombre.",
    "unknown_host_limit": "Ha solicitado demasiados sitios que no existen. Espere unos segundos, por favor.",
    "no_backends": "En este momento no hay ningún servidor disponible para este sitio.",
    "drained": "Este sitio está fuera de servicio por un momento. Vuelva a intentarlo pronto, por favor.",
    "lookup_failed": "No se pudo averiguar dónde está este sitio. Vuelva a intentarlo pronto, por favor.",
    "maintenance": "Este sitio está en mantenimiento. Vuelva más tarde, por favor.",
    "site_limit": "Este sitio atiende ya todas las solicitudes que puede. "
    "Vuelva a intentarlo en un momento, por favor.",
    "client_limit": "Este sitio tiene muchos visitantes y usted tiene muchas solicitudes abiertas. "
    "Vuelva a intentarlo en un momento, por favor.",
    "all_refused": "Todos los servidores de este sitio están ocupados. "
    "Vuelva a intentarlo en un momento, por favor.",
    "edge_overloaded": "Este servidor está sobrecargado. Vuelva a intentarlo en un momento, por favor.",
    "edge_stopped": "Este servidor se está reiniciando. Vuelva a intentarlo en un momento, por favor.",
    "connect_failed": "No se pudo contactar con ningún servidor de este sitio.",
    "connect_timeout": "No se pudo contactar a tiempo con ningún servidor de este sitio.",
    "misdirected": "Los servidores de este sitio se han trasladado y aún no se conoce su nueva dirección.",
    "closed_early": "El servidor del sitio cerró la conexión antes de responder.",
    "bad_answer": "La respuesta del sitio no era HTTP válido.",
    "response_too_large": "Las cabeceras de la respuesta del sitio son más grandes de lo que este servidor acepta.",
    "first_byte_timeout": "El sitio tardó demasiado en responder.",
    "cold_start_timeout": "El servidor del sitio no se inició a tiempo.",
    "stalled": "El sitio se detuvo en mitad de su respuesta.",
}
SPANISH: Final = Translation(
    "es", {"site": "Sitio", "reason": "Motivo", "request": "Solicitud"}, _TITLES, _SENTENCES
)
